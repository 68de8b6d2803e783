"""Recipes carried out: the edge at which a recipe is turned into plain arguments for the layers below."""
