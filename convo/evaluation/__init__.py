"""Evaluation: how good is it? Measured through the product's own path, on data that the operator has."""
