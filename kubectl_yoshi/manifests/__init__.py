"""The YAML that `kubectl yoshi install` applies."""
