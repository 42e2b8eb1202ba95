"""The field's usual formats, COLMAP and nerfstudio, turned into the scene contract."""
