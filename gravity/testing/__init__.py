"""Makers of test data that speak the product's own words."""
