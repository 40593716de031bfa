// A gallery draws the boxes of the cards in sight, from typed arrays; the figures come from counts by level.
for (const root of document.querySelectorAll(".gallery")) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const unpack = ({type, data}) => new ({Uint8Array, Uint16Array, Uint32Array})[type](
    Uint8Array.from(atob(data), (character) => character.charCodeAt(0)).buffer);
  const unpackAll = (columns) => Object.fromEntries(Object.entries(columns).map(
    ([name, column]) => [name, column.data === undefined ? column : unpack(column)]));
  const boxes = unpackAll(data.boxes), tally = data.slider && unpackAll(data.slider.tally);
  const counts = data.counts && unpackAll(data.counts);
  const {pictures, classes, groups, fractions} = data;
  const starts = new Uint32Array(pictures.length + 1);
  for (const picture of boxes.picture) starts[picture + 1]++;
  for (let i = 0; i < pictures.length; i++) starts[i + 1] += starts[i];

  const find = (selector) => root.querySelector(selector);
  const slider = find("input[type=range]"), choice = find("select.class"), cards = find(".cards"), more = find(".more");
  const dialog = find("dialog"), truth = groups.map((group) => group.role === "truth");
  const labelled = (box) => truth[boxes.group[box]] || groups[boxes.group[box]].labelled;
  const MISSED = groups.length, ALL = -1, PAGE = 24;
  let kind = ALL, level = slider ? +slider.value : 0, label = choice ? +choice.value : -1, order = [], shown = PAGE, opened = -1;

  const make = (name, attributes = {}, space = "http://www.w3.org/2000/svg") => {
    const element = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const html = (name, attributes) => make(name, attributes, "http://www.w3.org/1999/xhtml");

  // The kind of a box as the slider stands: its group, MISSED, or null where it is not shown.
  const kindOf = (box) => {
    if (label >= 0 && boxes.label[box] !== label) return null;
    const group = boxes.group[box];
    if (truth[group]) return tally && (boxes.level[box] < level || boxes.level[box] === data.never) ? MISSED : group;
    return boxes.level[box] < level ? null : group;
  };
  const visible = (picture) => {
    const found = [];
    for (let box = starts[picture]; box < starts[picture + 1]; box++) {
      const one = kindOf(box);
      if (one !== null) found.push([box, one]);
    }
    return found.sort(([a, one], [b, other]) => (one === MISSED) - (other === MISSED) || one - other || boxes.level[a] - boxes.level[b]);
  };
  const look = (one) => one === MISSED
    ? {...groups[truth.indexOf(true)], name: "missed object", dash: "5 4"} : groups[one];
  const swatch = (one) => {
    const {color, dash} = look(one), svg = make("svg", {viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true"});
    svg.append(make("rect", {x: 1.5, y: 1.5, width: 9, height: 9, class: "swatch", stroke: color, ...(dash && {"stroke-dasharray": "3 2"})}));
    return svg;
  };
  const words = (box) => {
    const sure = labelled(box) || !data.slider ? "" : ` ${(boxes.level[box] / data.levels).toFixed(3)}`;
    return classes[boxes.label[box]] + sure;
  };
  const corner = (box, side, length) => boxes.xyxy[4 * box + side] / fractions * length;

  const drawn = (picture) => visible(picture).filter(([box, one]) => kind === ALL || kind === one || truth[boxes.group[box]]);
  const draw = (svg, picture, captions) => {
    const {width, height} = pictures[picture], size = Math.max(width, height) / 42;
    svg.replaceChildren(...drawn(picture).flatMap(([box, one]) => {
      const [x, y] = [corner(box, 0, width), corner(box, 1, height)];
      const place = {x, y, width: Math.max(0, corner(box, 2, width) - x), height: Math.max(0, corner(box, 3, height) - y)};
      const {color, name, dash, fine} = look(one);
      const quiet = fine || (tally && truth[one]);
      const rect = make("rect", {...place, class: quiet ? "box quiet" : "box", stroke: color, "data-kind": name, ...(dash && {"stroke-dasharray": dash})});
      const title = make("title");
      title.textContent = `${name}: ${words(box)}`;
      rect.append(title);
      const parts = quiet ? [rect] : [make("rect", {...place, class: "casing"}), rect];
      if (captions && !fine) {
        const low = labelled(box);
        const text = make("text", {x: x + size * 0.2, y: low ? y + place.height - size * 0.3 : Math.max(size, y - size * 0.3), "font-size": size, class: "caption"});
        text.textContent = words(box);
        parts.push(text);
      }
      return parts;
    }));
  };
  const picture = (index, alt) => {
    const {source, width, height} = pictures[index], frame = html("span", {class: "frame"});
    const image = html("img", {alt, width, height, decoding: "async"});
    image.src = source;
    const svg = make("svg", {viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true"});
    frame.append(image, svg);
    return [frame, svg];
  };

  // Cards are made when they are first shown, and kept; those out of sight are drawn once they come into it.
  const made = new Map();
  const describe = (index) => {
    const counts = new Map();
    for (const [, one] of drawn(index)) if (!(tally && truth[one])) counts.set(look(one).name, (counts.get(look(one).name) || 0) + 1);
    return [...counts].map(([name, count]) => `${name} ${count}`).join(", ") || "no boxes";
  };
  const refresh = (card) => {
    if (!card.near) return;
    draw(card.svg, card.index, false);
    const told = describe(card.index);
    card.told.textContent = told;
    card.image.alt = `${pictures[card.index].name}: ${told}`;
  };
  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
    const card = made.get(+entry.target.dataset.index);
    card.near = entry.isIntersecting;
    refresh(card);
  }), {rootMargin: "300px"});
  const cardOf = (index) => {
    if (made.has(index)) return made.get(index);
    const figure = html("figure", {class: "card", "data-index": index}), button = html("button", {type: "button"});
    const [frame, svg] = picture(index, pictures[index].name);
    const caption = html("figcaption"), name = html("b"), told = html("span");
    button.append(frame);
    button.setAttribute("aria-label", `Enlarge ${pictures[index].name}`);
    name.textContent = pictures[index].name;
    caption.append(name, ...(pictures[index].note ? [Object.assign(html("span"), {textContent: pictures[index].note})] : []), told);
    figure.append(button, caption);
    button.addEventListener("click", () => open(index));
    const card = {index, figure, svg, told, image: frame.firstChild, near: false};
    made.set(index, card);
    watcher.observe(figure);
    return card;
  };

  const fits = (index) => {
    if (kind === ALL && label < 0) return true;
    const found = visible(index);
    return kind === ALL ? found.length > 0 : found.some(([, one]) => one === kind);
  };
  const list = () => {
    order = pictures.map((_, index) => index).filter(fits);
    const wanted = order.slice(0, shown).map((index) => cardOf(index).figure);
    if (wanted.length !== cards.children.length || wanted.some((figure, place) => figure !== cards.children[place])) cards.replaceChildren(...wanted);
    more.hidden = order.length <= shown;
    find(".shown").textContent = order.length === pictures.length ? `${pictures.length} pictures` : `${order.length} of ${pictures.length} pictures`;
  };

  const share = (part, whole) => whole ? `${(100 * part / whole).toFixed(1)} %` : "–";
  const buttons = new Map();
  const count = () => {
    const sums = new Array(groups.length + 1).fill(0);
    if (!tally) {
      const all = counts || boxes;
      for (let row = 0; row < all.label.length; row++)
        if (label < 0 || all.label[row] === label) sums[all.group[row]] += counts ? counts.count[row] : 1;
    } else {
      for (let row = 0; row < tally.count.length; row++)
        if (tally.level[row] >= level && (label < 0 || tally.label[row] === label)) sums[tally.group[row]] += tally.count[row];
      const of = (role) => groups.reduce((sum, group, one) => sum + (group.role === role ? sums[one] : 0), 0);
      const objects = label < 0 ? tally.objects.reduce((sum, number) => sum + number, 0) : tally.objects[label];
      const [right, wrong] = [of("right"), of("wrong")];
      sums[MISSED] = objects - right;
      if (truth.includes(true)) sums[truth.indexOf(true)] = right;
      const say = (name, text) => { find(`.figures .${name}`).textContent = text; };
      say("precision", share(right, right + wrong));
      say("recall", share(right, objects));
      for (const [name, number] of Object.entries({right, wrong, missed: objects - right, objects})) say(name, number.toLocaleString("en"));
      find("output.level").textContent = (level / data.levels).toFixed(3);
    }
    for (const [one, button] of buttons) {
      button.setAttribute("aria-pressed", String(one === kind));
      if (one !== ALL) button.lastChild.textContent = sums[one].toLocaleString("en");
    }
  };

  const kinds = [ALL, ...groups.keys(), ...(tally && truth.includes(true) ? [MISSED] : [])];
  for (const one of kinds) {
    const button = html("button", {type: "button"}), number = html("span", {class: "number"});
    if (one !== ALL) button.append(swatch(one));
    button.append(one === ALL ? "all" : look(one).name, number);
    button.addEventListener("click", () => { kind = kind === one ? ALL : one; shown = PAGE; update(); });
    buttons.set(one, button);
  }
  find(".kinds").append(...buttons.values());

  const open = (index) => {
    opened = index;
    const [frame, svg] = picture(index, pictures[index].name);
    const {name, note, width, height} = pictures[index];
    draw(svg, index, true);
    frame.firstChild.alt = `${name}: ${describe(index)}`;
    find("dialog .title").textContent = note ? `${name}, ${note}` : name;
    find("dialog .large").replaceChildren(frame);
    frame.style.width = `min(100%, ${Math.round(72 * width / height)}vh)`;
    find("dialog .list").replaceChildren(...drawn(index).filter(([, one]) => !look(one).fine).reverse().map(([box, one]) => {
      const item = html("li");
      item.append(swatch(one), `${words(box)}: ${look(one).name}`);
      return item;
    }));
    if (!dialog.open) dialog.showModal();
  };
  const turn = (step) => {
    const place = order.indexOf(opened);  // a picture that the slider has taken off the list is left for its neighbours
    const others = order.filter((picture) => step > 0 ? picture > opened : picture < opened);
    const next = place >= 0 ? order[place + step] : step > 0 ? others[0] : others[others.length - 1];
    if (next !== undefined) open(next);
  };
  dialog.addEventListener("keydown", (event) => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key], lift = {ArrowUp: 10, ArrowDown: -10}[event.key];
    if (step) turn(step);
    if (lift && slider) {
      slider.value = +slider.value + lift;
      level = +slider.value;
      update();
      open(opened);
    }
    if (step || (lift && slider)) event.preventDefault();
  });
  dialog.addEventListener("close", () => { const card = made.get(opened); if (card) card.figure.querySelector("button").focus(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  find(".previous").addEventListener("click", () => turn(-1));
  find(".next").addEventListener("click", () => turn(1));
  find(".close").addEventListener("click", () => dialog.close());

  const update = () => {
    count();
    list();
    for (const card of made.values()) refresh(card);
  };
  let waiting = false;
  if (slider) slider.addEventListener("input", () => {
    level = +slider.value;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; update(); });
  });
  if (choice) choice.addEventListener("change", () => { label = +choice.value; shown = PAGE; update(); });
  more.addEventListener("click", () => { shown += 2 * PAGE; list(); });
  addEventListener("beforeprint", () => made.forEach((card) => { card.near = true; refresh(card); }));
  root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  update();
}
