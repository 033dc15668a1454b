"""Tests of the verifier: `python3 -m unittest discover -s tests/verifier/tests -t tests`."""
