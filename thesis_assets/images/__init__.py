"""Codecs, contact sheets, device-to-host transfer and the triplet writer."""
