"""Card holders who are erased: their pseudonyms, what of a payload may stay, and what arrives late about them."""
