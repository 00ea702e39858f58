"""The sums of `composer.ops` in plain torch: any device, float64 or float32, readable. The reference of the compiled ones, and what runs on a GPU.

A *function* is given positions x [N, 3] (Å), cells h [S, 3, 3] (Å), charges u [N] and whether slopes are wanted; it returns `Values`: phi = A u and
the slopes of the form u A u. All that does not move (plans, lists of pairs, which atom belongs where) is chosen on the host and laid on the device
beforehand, so that a call waits for nothing.
"""
