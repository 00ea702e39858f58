"""Global operations: linear maps of site scalars that no sum over neighbours states, such as the smooth part of an Ewald sum.

Each stands beside a dense oracle (`dense.py`) with which it shares no line.
"""
