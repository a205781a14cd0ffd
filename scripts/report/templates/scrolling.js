// Marks the tables that are wider than their card, so that the style sheet says that they scroll.
(() => {
  const sheets = document.querySelectorAll(".sheet");
  const mark = () => sheets.forEach((each) => each.classList.toggle("scrolls", each.scrollWidth > each.clientWidth + 1));
  addEventListener("resize", mark);
  document.addEventListener("toggle", mark, true); // a table that was folded away has a width now
  mark();
})();
