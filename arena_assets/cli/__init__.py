"""`arena ...`: the terminal."""
