"""A curriculum as a PyTorch dataset."""
