"""What every target must hold, computed without the product.

An import contract keeps gravity out of this package: it reads the sources by SELECT and by the stock
mysql-replication reader, decides conflicts by an implementation of its own, and reads the targets by
their ordinary clients.
"""
