"""The studies: a module beside each claim's notebook."""
