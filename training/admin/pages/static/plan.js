// A form of questions, read as a plan.

function put(plan, name, value) {
  const [first, second] = name.split(".");
  if (second) plan[first] = {...plan[first], [second]: value};
  else plan[first] = value;
}

const numeric = (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text.trim());

export function planOf(form) {
  const plan = {};
  form.querySelectorAll("[data-plan]").forEach((field) => {
    const name = field.dataset.plan;
    if (field.type === "checkbox") put(plan, name, field.checked);
    else if (field.tagName === "SELECT" || name === "name" || name === "threshold_purpose") put(plan, name, field.value.trim());
    else if (field.value.trim() !== "") put(plan, name, numeric(field.value));
  });
  form.querySelectorAll("[data-plan-several]").forEach((box) => {
    const name = box.dataset.planSeveral;
    plan[name] ||= [];
    if (box.checked) plan[name].push(box.value);
  });
  return plan;
}

document.getElementById("show-plan")?.addEventListener("click", (event) => {
  const shown = document.getElementById("plan");
  shown.textContent = JSON.stringify(planOf(event.target.closest("form")), null, 1);
  shown.classList.toggle("hidden");
});

// What learns follows from what is learned from: random weights learn as a whole.
document.querySelector("[data-plan=base]")?.addEventListener("change", (event) => {
  const mode = event.target.form.querySelector("[data-plan=mode]");
  const fresh = !/^(current|[0-9a-f]{64})$/.test(event.target.value);
  if (fresh) mode.value = "scratch";
  else if (mode.value === "scratch") mode.value = "head";
});
