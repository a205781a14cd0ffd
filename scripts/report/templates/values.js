// Shows the values of a chart under the pointer. Without it, the page lacks only them.
(() => {
  const two = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  const one = { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 };
  const formats = { usd: two, ratio: two, percent: one };
  const say = (unit, value) =>
    value === null ? "–" : new Intl.NumberFormat("en-US", formats[unit]).format(value).replace("-", "−");
  const times = JSON.parse(document.getElementById("times")?.textContent ?? "[]");
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;

  function add(parent, name, words) {
    const made = parent.appendChild(document.createElement(name));
    made.textContent = words;
    return made;
  }

  function fill(values, index) {
    tip.replaceChildren();
    add(tip, "b", (values.labels ?? times)[values.labels ? index : values.places[index]]);
    const list = tip.appendChild(document.createElement("dl"));
    for (const { name, unit, values: numbers } of values.lines) {
      add(list, "dt", name);
      add(list, "dd", say(unit, numbers[index]));
    }
    for (const words of values.notes[index] ?? []) add(tip, "p", words);
  }

  function move(event) {
    tip.hidden = false;
    const left = event.clientX + (event.clientX > innerWidth / 2 ? -tip.offsetWidth - 14 : 14);
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4))}px`;
  }

  function follow(svg) {
    const values = JSON.parse(svg.closest("figure, article").querySelector("script.values").textContent);
    const [left, right] = [Number(svg.dataset.left), Number(svg.dataset.right)];
    const title = svg.querySelector("title");
    svg.setAttribute("aria-label", title.textContent);
    title.remove(); // browsers would show it beside the values
    const cursor = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "line"));
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y2", "100%");

    function show(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      const [first, last] = [values.places[0], values.places.at(-1)];
      const place = first + ((at - left) / (right - left || 1)) * (last - first);
      const after = values.places.findIndex((each) => each >= place);
      const index = after < 0 ? values.places.length - 1 : after;
      const before = Math.max(index - 1, 0);
      const nearest = place - values.places[before] < values.places[index] - place ? before : index;
      const x = left + ((values.places[nearest] - first) / (last - first || 1)) * (right - left);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      svg.classList.add("pointed");
      fill(values, nearest);
      move(event);
    }

    function hide() {
      svg.classList.remove("pointed");
      tip.hidden = true;
    }

    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointercancel", hide);
  }

  document.querySelectorAll("svg[data-left]").forEach(follow);
})();
