"""The lightning command."""
