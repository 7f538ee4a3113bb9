"""Read a folder or bucket of pictures into a table, by a pool of readers on Ray: `python -m inkling.client.batch`.

The one package of the client that needs Ray and PyArrow, which the extra `batch` brings; nothing imports it. `job`
knows what is to be read and what is written already, `reader` reads, `pool` has Ray Data run many readers.
"""
