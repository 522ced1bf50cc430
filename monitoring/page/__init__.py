"""The page of a model, `write_page`: one HTML file that tells from the model's files what happened to it, and why."""

from monitoring.page.document import draw_page, write_page
from monitoring.page.story import ModelStory, read_story

__all__ = ["ModelStory", "draw_page", "read_story", "write_page"]
