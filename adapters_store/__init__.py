"""Experts on disk and in host memory: packages, manifests, and the store that leases them."""
