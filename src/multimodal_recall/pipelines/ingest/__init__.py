"""From official TSVs to chunk tables."""
