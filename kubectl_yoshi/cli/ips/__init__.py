"""The commands of `kubectl yoshi ips`."""
