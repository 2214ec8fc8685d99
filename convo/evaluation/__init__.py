"""Measure the quality of search and of prompts through the product's own code, on the operator's data."""
