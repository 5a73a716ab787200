"""One file a published system, named as ``model.kind`` in the options: a subclass of ``Ranker``, called ``build``."""
