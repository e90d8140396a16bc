// Shows the OpenAPI document beside this page, and lets people try its requests.
SwaggerUIBundle({
  url: document.currentScript.dataset.document,
  dom_id: "#viewer",
  deepLinking: true,
  docExpansion: "list",
  filter: true,
  tryItOutEnabled: true,
  // The key stays in the memory of the page.
  persistAuthorization: false,
});
