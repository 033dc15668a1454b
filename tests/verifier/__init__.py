"""A second implementation of templar's rules, in stock Python, written from `manifests/README.md` alone.

It reads a whole run and computes again everything that needs no tensors: see README.md in this folder, which also
says in which order to read the modules.
"""
