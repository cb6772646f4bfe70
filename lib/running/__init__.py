"""What runs notebooks: which are fresh, the processes that run them, and what became of them."""
