"""One file a published system, named as ``model.kind`` in the options; ``build`` is its ``Ranker`` class."""
