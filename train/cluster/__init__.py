"""The run on a Ray cluster: joining it, how many workers it holds, and the training loop in each of them."""
