"""The project's pipelines, one folder each: ``nodes.py`` what is done, ``pipeline.py`` how it is wired."""
