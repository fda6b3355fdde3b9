"""The commands of `kubectl yoshi completion`."""
