"""What to train on, in what proportion, when: weights of groups and documents that training loops read."""
