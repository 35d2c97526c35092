// Tables that are wider than the page scroll in a box of the theme, which the keyboard must reach too.
addEventListener("load", () => {
  const sized = new ResizeObserver((boxes) => {
    for (const { target } of boxes) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) sized.observe(box);
});
