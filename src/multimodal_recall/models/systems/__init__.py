"""One file a published system, named as ``model.kind`` in the options; its ``build`` is the system's ``Ranker`` class."""
