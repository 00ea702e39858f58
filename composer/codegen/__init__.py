"""From nodes to values: the reference in torch, and printers of kernels."""
