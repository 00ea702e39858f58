"""The index language: hash-consed nodes with named indices, closed under differentiation. Imports no torch."""
