"""`python -m serving tune`: which settings of batching and threads answer a recorded load best."""
