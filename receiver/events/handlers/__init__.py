"""One module for each kind of resource: how its events change the records."""
