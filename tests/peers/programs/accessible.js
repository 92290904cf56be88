// What a screen reader or a keyboard could not make sense of.
() => {
  const found = [];
  const seen = (node) => node.getClientRects().length > 0;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  const name = (node) => node.getAttribute('aria-label')
    || (node.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id)?.textContent).join('')
    || [...(node.labels ?? [])].map((label) => label.textContent).join('') || node.textContent;
  const check = (nodes, what, fine) => nodes.filter((node) => !fine(node)).forEach((node) =>
    found.push(`${what}: ${node.outerHTML.slice(0, 120)}`));
  check(all('button, input, select, a[href], summary, [role=tab], [role=tabpanel], [role=region]'), 'no name',
    (node) => name(node)?.trim());
  check(all('main section'), 'a section without a name', (node) => name(node)?.trim());
  check(all('table'), 'no caption', (node) => node.caption?.textContent.trim());
  check(all('th'), 'no scope', (node) => ['col', 'row'].includes(node.scope));
  check(all('thead th'), 'sorted by no button', (node) => node.querySelector('button'));
  check(all('canvas'), 'a canvas without words', (node) => node.getAttribute('role') === 'img' && name(node).trim());
  check(all('main svg'), 'a picture that is neither named nor hidden', (node) => node.getAttribute('aria-hidden') === 'true'
    || (node.getAttribute('role') === 'img' && node.getAttribute('aria-label')));
  check(all('[role=img] > title, .map > svg'), 'no description', (node) => node.matches('title') || node.querySelector('desc'));
  check(all('[tabindex]'), 'out of the order', (node) => Number(node.getAttribute('tabindex')) <= 0);
  check(all('.table'), 'a region that cannot be scrolled by keyboard', (node) => node.tabIndex === 0);
  check(all('time'), 'no time', (node) => !Number.isNaN(Date.parse(node.dateTime)));
  const levels = all('h1, h2, h3').map((node) => Number(node.tagName[1]));
  levels.forEach((each, index) => each - (levels[index - 1] ?? 0) > 1 && found.push(`a heading too deep: h${each}`));
  const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
  ids.forEach((id, index) => ids.indexOf(id) !== index && found.push(`twice: #${id}`));
  const selected = all('[role=tab][aria-selected=true]');
  if (selected.length !== 1) found.push('not one tab is selected');
  if (!document.documentElement.lang || !document.title) found.push('no language or title');
  return found;
}
