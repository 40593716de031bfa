"""A data set as an HTML page: its problems with their pictures, sizes, what anchors cover, examples; without MXNet."""
