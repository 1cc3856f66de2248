"""Layouts of datasets on disk: one module a layout, found by name."""

from cssegcore.data.layouts._base import Layout as Layout
