"""The HTML pages, which work without JavaScript, and better with it. `page` has what they share."""
