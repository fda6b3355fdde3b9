"""The commands of `kubectl yoshi vm`."""
