"""How good is a stylized collection: distances to style and content, and the pictures that matter."""
