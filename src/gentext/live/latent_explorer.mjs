export default { render({ model, el }) { el.dataset.state = "ready"; } };
