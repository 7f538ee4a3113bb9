"""Pictures by the thousand, each of which is a seven."""

from PIL import Image, ImageDraw


def draw_sevens(folder, count):
    """Small pictures, every other one in a folder below."""
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).line([(7, 6), (20, 6), (12, 23)], fill=255, width=3)
    for number in range(count):
        path = folder / ("below" if number % 2 else ".") / f"page-{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
