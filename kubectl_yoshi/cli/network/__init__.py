"""The commands of `kubectl yoshi network`."""
