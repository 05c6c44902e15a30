"""Measurements of the command line beside its peers."""
