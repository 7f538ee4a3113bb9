"""The MNIST digits as `mnist.npz`, beside their licence and the script that packs them."""
