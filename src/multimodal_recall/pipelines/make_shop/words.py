"""The made-up shop's vocabulary, and the shares of the official data that it copies (``official-data.md``)."""

LABELS = (
    "top clothes (coat, jacket, shirt, etc.)",
    "skirt & dress",
    "bottom clothes (trousers, pants, etc.)",
    "luggage, leather goods",
    "shoes",
    "accessories (jewelry, clothing accessories, belts, hats, scarves, etc.)",
    "snacks, nuts, liquor and tea",
    "makeup, perfume, beauty tools and essential oils",
    "bottle drink",
    "furniture",
    "stationery",
    "household electrical appliances",
    "home decoration",
    "household fabric",
    "kitchenware",
    "home / personal cleaning tools",
    "storage supplies",
    "motorcycle, motorcycle accessories, vehicles, bicycle and riding equipment",
    "outdoor product",
    "lighting",
    "toys",
    "underwear",
    "digital supplies",
    "bed linens",
    "baby products",
    "personal care",
    "sporting goods",
    "clothes (accessories, baby clothing, etc.)",
    "others",
    "human face",
    "arm",
    "hair",
    "hand",
)
OTHERS_LABEL, FACE = 28, 29

NOUNS = {
    "shirt": 0,
    "jacket": 0,
    "dress": 1,
    "jeans": 2,
    "handbag": 3,
    "shoes": 4,
    "boots": 4,
    "hat": 5,
    "tea": 6,
    "lipstick": 7,
    "doll": 20,
    "blocks": 20,
}
"""Product nouns and the label of a box that shows one."""

ATTRIBUTES = {
    "audience": ("men", "women", "children", "baby's"),
    "season": ("spring", "summer", "autumn", "winter"),
    "colour": ("black", "white", "red", "blue", "green", "pink"),
    "pattern": ("plain", "striped", "floral", "polka-dot"),
    "material": ("cotton", "leather", "wool", "plastic"),
}
"""Values of each attribute, in the order in which a query names them."""

FILLERS = ("new", "fashion", "original", "professional", "classic", "quality", "popular", "creative")
"""Words that say nothing about the product."""

QUERY_WORDS = {2: 0.18, 3: 0.28, 4: 0.25, 5: 0.16, 6: 0.07, 7: 0.03, 9: 0.02, 14: 0.007, 21: 0.003}
"""Share of queries by words: mean 3.9, quartiles 3/4/5, as in the official file."""

BOX_COUNTS = (0.242, 0.211, 0.151, 0.113, 0.078, 0.056, 0.039, 0.029, 0.021, 0.015, 0.011, 0.008, 0.026)
"""Share of images with 1, 2, ..., 12 boxes, and with more."""

SQUARE_SIDES = {800: 0.30, 750: 0.07, 1000: 0.05, 700: 0.03, 600: 0.05, 500: 0.08}
"""Share of images that are squares of this side in pixels; the rest are of any shape."""
