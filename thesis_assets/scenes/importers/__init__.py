"""The field's usual formats, COLMAP, nerfstudio and Hi4D, turned into the scene contract."""
