"""Write a set as shards, with augmented versions of its images if wanted: `python -m train shard`.

making   one shard: a function of its images and of (seed, example, copy), whoever computes it
writing  a whole set: what is written, in which order, and the manifest at the end
job      that over all workers of a Ray cluster
"""
