"""The page in a browser with which somebody who has a folder of images gets an adapter for them."""
