// torch.classes.specbench.Program: a pass that AOTInductor compiled, and the loop that drafts with it.

#include <ATen/core/Tensor.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/custom_class.h>

#include <cmath>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "team.h"

namespace {

// A pass takes token ids (1, width), where they start, or (3, width) `trees.places`, the rows whose logits are wanted, and the cache's tensors;
// it returns logits and the most likely id of each row, (1, rows).
struct Program : torch::CustomClassHolder {
  // `narrow`: the most tokens of a pass whose products are all our own kernels' work, which then keeps its threads
  // together; torch's own products would find no other thread free.
  Program(const std::string& path, int64_t narrow)
      : loader(path, "model", /*run_single_threaded=*/true), narrow(narrow) {}

  std::vector<std::string> weights() { return loader.get_constant_fqns(); }

  // The package keeps pointers only, so the tensors are kept alive here.
  void read(std::vector<std::string> names, std::vector<at::Tensor> tensors) {
    for (size_t i = 0; i < names.size(); ++i) kept[names[i]] = tensors[i];
    order = {};  // it knows the tensors that there were
    loader.load_constants(kept, /*use_inactive=*/false, /*check_full_update=*/true, /*user_managed=*/true);
  }

  std::vector<at::Tensor> run(std::vector<at::Tensor> inputs) {
    std::vector<at::Tensor> found;
    together(inputs[0].size(1), [&] { found = loader.boxed_run(std::move(inputs)); });
    return found;
  }

  // `inputs` are the first pass's; each later pass reads what the one before found most likely. The highest logit
  // shows that a row is not finite, for argmax finds NaN first; then the loop ends.
  std::vector<int64_t> draft(std::vector<at::Tensor> inputs, int64_t count) {
    std::vector<int64_t> drafted;
    together(inputs[0].size(1), [&] { append(inputs, count, drafted); });
    return drafted;
  }

 private:
  template <class Pass>
  void together(int64_t width, const Pass& pass) {
    if (width > narrow || at::get_num_threads() < 2 || at::in_parallel_region()) return pass();
    specbench::Team(order).together(pass);
  }

  void append(std::vector<at::Tensor>& inputs, int64_t count, std::vector<int64_t>& drafted) {
    while (static_cast<int64_t>(drafted.size()) < count) {
      const int64_t next = inputs[1].flatten()[0].item<int64_t>() + inputs[0].size(1);
      order.at = 0;
      auto given = inputs;
      auto found = loader.boxed_run(std::move(given));
      inputs[0] = found[1];
      inputs[1] = inputs[1].dim() ? at::tensor({next, next, int64_t{0}}).view({3, 1}) : at::scalar_tensor(next, at::kLong);
      if (drafted.empty()) inputs[2] = at::zeros({1}, at::kLong);
      const int64_t token = inputs[0].item<int64_t>();
      if (!std::isfinite(found[0].select(0, 0).select(0, token).item<double>())) break;
      drafted.push_back(token);
    }
  }

  torch::inductor::AOTIModelPackageLoader loader;
  std::unordered_map<std::string, at::Tensor> kept;
  int64_t narrow;
  specbench::Order order;
};

}  // namespace

TORCH_LIBRARY_FRAGMENT(specbench, library) {
  library.class_<Program>("Program")
      .def(torch::init<std::string, int64_t>())
      .def("weights", &Program::weights)
      .def("read", &Program::read)
      .def("run", &Program::run)
      .def("draft", &Program::draft);
}
