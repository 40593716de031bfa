// Show the numbers of the point under the pointer, or the one that the arrow keys lead to.
for (const figure of document.querySelectorAll("figure.lines")) {
  const svg = figure.querySelector("svg"), cursor = svg.querySelector(".cursor"), tip = figure.querySelector(".tip");
  const data = JSON.parse(figure.querySelector("script").textContent);
  const [low, high, start, end] = data.scale;
  const stops = [...new Set(data.curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
  const number = (value) => value === null ? "–" : String(Number.isInteger(value) ? value : +value.toPrecision(5));
  const nearest = (values, x) => {
    let [below, above] = [0, values.length - 1];
    while (above - below > 1) {
      const middle = (below + above) >> 1;
      if (values[middle] > x) above = middle; else below = middle;
    }
    return Math.abs(values[above] - x) < Math.abs(values[below] - x) ? above : below;
  };
  let stop = -1;
  const show = (index) => {
    stop = index;
    const x = stops[stop], place = start + (x - low) / (high - low) * (end - start);
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.setAttribute("visibility", "visible");
    const gap = stops.length > 1 ? 2 * (stops[stops.length - 1] - stops[0]) / (stops.length - 1) : 1;
    const parts = data.curves.flatMap((curve) => {
      const at = nearest(curve.x, x);
      return Math.abs(curve.x[at] - x) > gap || curve.y[at] === null ? [] : [`${curve.name} ${number(curve.y[at])}`];
    });
    tip.textContent = `${data.x} ${number(x)}: ${parts.join(", ")}`;
    tip.hidden = false;
  };
  const hide = () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), place = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    show(nearest(stops, low + (place - start) / (end - start) * (high - low)));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!step) return;
    event.preventDefault();
    show(Math.max(0, Math.min(stops.length - 1, stop + step)));
  });
}
